"""What all systems of entities share, from marked texts to thresholds and explanations; see `system.EntitySystem`."""
