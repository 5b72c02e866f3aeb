"""What is declared: one folder per stage and name, and the resources that steps are given."""
