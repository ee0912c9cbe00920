"""Several models side by side: scores, tests, rankings, figures and a page."""
