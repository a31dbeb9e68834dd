"""The plain build: ModelViewSet, ModelSerializer, JWTAuthentication, numbered pages with an exact count."""
