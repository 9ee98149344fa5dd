-- The newest state of each agent is in run_agents; nobody reads what it was at a part.
ALTER TABLE parts DROP COLUMN agents;
