-- How long the body of a delivery is, where it is stored packed (LZ4, one block); nothing where it is stored as it came.
ALTER TABLE deliveries ADD COLUMN unpacked INTEGER;
