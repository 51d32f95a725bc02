"""What must hold when inputs, disks and people do the worst."""
