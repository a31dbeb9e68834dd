from typing import Any

from django.db.models import F, QuerySet
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.filters import SearchFilter
from rest_framework.permissions import IsAuthenticatedOrReadOnly
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from benchmarks.references.stock.models import Doctor, Patient
from benchmarks.references.stock.serializers import DoctorSerializer, PatientDoctorSerializer, PatientSerializer


class PatientViewSet(viewsets.ModelViewSet):
    queryset = Patient.objects.none()
    serializer_class = PatientSerializer
    filter_backends = [SearchFilter]
    search_fields = ["name", "phone", "email", "identifier"]

    def get_queryset(self) -> QuerySet:
        return Patient.objects.filter(created_by=self.request.user)

    def perform_create(self, serializer: BaseSerializer) -> None:
        serializer.save(created_by=self.request.user)

    def perform_update(self, serializer: Any) -> None:
        serializer.save(version=serializer.instance.version + 1)

    @action(detail=True)
    def doctors(self, request: Request, pk: str) -> Response:
        patient = self.get_object()
        doctors = Doctor.objects.filter(mappings__patient=patient).annotate(mapping=F("mappings__id"))
        return Response(PatientDoctorSerializer(doctors.order_by("-mapping"), many=True).data)


class DoctorViewSet(viewsets.ModelViewSet):
    queryset = Doctor.objects.all()
    serializer_class = DoctorSerializer
    permission_classes = [IsAuthenticatedOrReadOnly]

    def perform_create(self, serializer: BaseSerializer) -> None:
        serializer.save(created_by=self.request.user)
