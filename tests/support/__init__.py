"""What several tests use: samples, slow truths, toy networks, pictures."""
