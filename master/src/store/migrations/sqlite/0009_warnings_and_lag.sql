-- What its masters had to say about a run that goes, as JSON, for the next one; null where there is nothing.
ALTER TABLE runs ADD COLUMN warnings TEXT;

-- How late each agent was so far: the three exact figures and the V2 bytes of the distribution of its schedule lag; now and then, where there are many.
ALTER TABLE run_agents ADD COLUMN lag BLOB;
