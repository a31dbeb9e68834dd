from django.urls import path

from benchmarks.references.ninja.api import api

urlpatterns = [path("api/", api.urls)]
