"""Pictures of cases with their segmentations, of one model or several side by side, as slices or surfaces."""
