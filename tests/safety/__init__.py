"""What a run promises beside right numbers: same bytes, bounded memory, nothing half-made."""
