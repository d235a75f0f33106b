"""Operations: what the night did, for the people who answer for it."""
