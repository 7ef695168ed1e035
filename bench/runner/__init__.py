"""What bench/run is made of: processes, contenders, scenarios, and the tables."""
