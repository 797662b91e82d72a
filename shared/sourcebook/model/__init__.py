"""What Sourcebook talks about: documents, sources, jobs, builds, queries. Pure: no input or output here."""
