-- What the owner is to know of pictures that were drawn all the same: a JSON list of errors, NULL for none.
ALTER TABLE job ADD COLUMN notes TEXT;
