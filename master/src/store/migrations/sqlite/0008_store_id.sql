-- Which store this is: masters of different stores are not one cluster. Null until a master asks.
ALTER TABLE office ADD COLUMN store_id TEXT;
