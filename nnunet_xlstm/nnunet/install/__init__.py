"""What makes trainers and planners findable, and what tells whether they are."""
