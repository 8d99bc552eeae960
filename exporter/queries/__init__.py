"""Questions about spend and their answers, for every interface that gives them: REST, MCP, the skill's commands."""
