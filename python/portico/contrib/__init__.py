"""What frameworks' own commands need to run Portico."""
