"""Moving trained weights into another network: what fits, what is changed to fit, and a table that says so."""
