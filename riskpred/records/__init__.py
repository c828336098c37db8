"""What a valid patient record is: schemas, ingest, the warehouse, cohorts, the simulated hospital. No torch."""
