"""What bench/load/run is made of: targets, scenarios, the generator, verdicts, pictures and pages."""
