"""What happens before a run: sources, download, verification, subsets."""
