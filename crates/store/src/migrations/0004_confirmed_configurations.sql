-- When the home of a kept configuration last showed that the copy is the newest. A copy from before this column was
-- confirmed by nobody and is not used until it is.
ALTER TABLE kept_config ADD COLUMN confirmed_ms INTEGER NOT NULL DEFAULT 0;
