"""fal's interfaces as they answer from the world: usage, activity, billing, serverless apps and the FOCUS report.

`calls` has what all of them share: keys, permissions, pages, errors. May import: `world`. Begin reading at `calls`,
then one endpoint of `usage`.
"""
