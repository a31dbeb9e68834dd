"""The same tables as the product's, as the plain build would declare them."""

import datetime

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models


class User(AbstractBaseUser):
    name = models.CharField(max_length=200)
    email = models.EmailField(unique=True)
    username = models.CharField(max_length=254, unique=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)
    is_superuser = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = BaseUserManager()

    USERNAME_FIELD = "username"

    class Meta:
        db_table = "accounts_user"


class Patient(models.Model):
    name = models.CharField(max_length=200)
    gender = models.CharField(max_length=1, choices=[(letter, letter) for letter in "MFOU"], default="U")
    birth_date = models.DateField(null=True, blank=True)
    birth_year = models.PositiveSmallIntegerField(null=True, blank=True)
    deceased = models.BooleanField(null=True, blank=True)
    deceased_on = models.DateField(null=True, blank=True)
    identifier = models.CharField(max_length=100, blank=True)
    identifiers = models.JSONField(default=list, blank=True)
    phone = models.CharField(max_length=40, blank=True)
    alternate_phone = models.CharField(max_length=40, blank=True)
    email = models.EmailField(blank=True)
    address = models.CharField(max_length=500, blank=True)
    language = models.CharField(max_length=50, blank=True)
    contacts = models.JSONField(default=list, blank=True)
    medical_history = models.TextField(blank=True)
    version = models.PositiveIntegerField(default=1)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="patients")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "patients_patient"
        ordering = ["-id"]

    @property
    def age(self) -> int | None:
        today = datetime.date.today()
        if self.birth_date:
            before_birthday = (today.month, today.day) < (self.birth_date.month, self.birth_date.day)
            return today.year - self.birth_date.year - before_birthday
        return today.year - self.birth_year if self.birth_year else None


class Doctor(models.Model):
    name = models.CharField(max_length=200)
    specialization = models.CharField(max_length=200, blank=True)
    license_number = models.CharField(max_length=100, blank=True)
    phone = models.CharField(max_length=40, blank=True)
    email = models.EmailField(blank=True)
    hospital = models.CharField(max_length=200, blank=True)
    experience_since = models.PositiveSmallIntegerField(null=True, blank=True)
    version = models.PositiveIntegerField(default=1)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="doctors")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "doctors_doctor"
        ordering = ["-id"]

    @property
    def experience_years(self) -> int | None:
        return None if self.experience_since is None else datetime.date.today().year - self.experience_since


class Mapping(models.Model):
    patient = models.ForeignKey(Patient, on_delete=models.PROTECT, related_name="mappings")
    doctor = models.ForeignKey(Doctor, on_delete=models.PROTECT, related_name="mappings")
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="mappings")

    class Meta:
        db_table = "mappings_mapping"
        ordering = ["-id"]
