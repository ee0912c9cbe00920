"""Studies: many trainings that differ in one thing, run, resumed and judged as one."""
