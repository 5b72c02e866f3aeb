"""What is declared and made, to read by name: for notebooks, scripts and `ml-platform sql`."""
