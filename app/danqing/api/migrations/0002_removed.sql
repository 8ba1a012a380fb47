-- Users that were removed stay as names that nobody gets again: pictures and jobs are known by the names of their owners.
ALTER TABLE user ADD COLUMN removed REAL;
