"""Which engines the contracts run on, besides the embedded ones: stand-ins, and the servers whose URL is given."""

import os

REAL_MONGODB = "SOURCEBOOK_TEST_MONGODB_URL"
REAL_REDIS = "SOURCEBOOK_TEST_REDIS_URL"
MONGO_ENGINES = ["secantus", *(["mongodb"] if os.environ.get(REAL_MONGODB) else [])]
REDIS_ENGINES = ["valkey", *(["redis"] if os.environ.get(REAL_REDIS) else [])]
