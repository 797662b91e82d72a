import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import java.util.List;

/** mongo-java-server on 127.0.0.1 and the port that is given, with nothing on disk. */
public class TestMongo {
    public static void main(String[] arguments) {
        MemoryBackend backend = new MemoryBackend();
        // The newest version that it knows speaks wire version 8, and pymongo talks to none below 9; what it is asked is older.
        backend.version(new MongoVersion() {
            public List<Integer> getVersionArray() {
                return List.of(5, 0, 0);
            }

            public int getWireVersion() {
                return 13;
            }
        });
        new MongoServer(backend).bind("127.0.0.1", Integer.parseInt(arguments[0]));
    }
}
