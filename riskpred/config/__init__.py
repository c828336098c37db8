"""YAML to frozen typed models; finds schemas/ and configs/ in a checkout and in a wheel."""
