package de.bwaldvogel.mongo.backend.aggregation.stage;

import de.bwaldvogel.mongo.MongoDatabase;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerNotYetImplementedException;
import java.util.stream.Stream;

/** Stands before the one of mongo-java-server, whose copy shares its documents with the original: a change would change both. */
public class OutStage extends TerminalStage {
    public OutStage(MongoDatabase database, Object collection) {}

    public String name() {
        return "$out";
    }

    void applyLast(Stream<Document> documents) {
        throw new MongoServerNotYetImplementedException(0, "$out");
    }

    public boolean isModifying() {
        return true;
    }
}
