import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

/**
 * A broker and its controller in one JVM. Formats its storage if that is empty, says `serving` when it serves, and
 * carries out one command for each line of standard input, which it answers by one line. Ends with standard input.
 */
public class Broker {
    public static void main(String[] arguments) throws Exception {
        String config = arguments[0];
        String address = arguments[1];
        List<String> format = new ArrayList<>(List.of("format", "--ignore-formatted", "-t",
            "MkU3OEVBNTcwNTJENDM2Qg", "-c", config));
        for (int index = 2; index < arguments.length; index++) {
            format.addAll(List.of("--add-scram", arguments[index]));
        }
        int formatted = kafka.tools.StorageTool.execute(format.toArray(new String[0]), System.err);
        if (formatted != 0) {
            System.exit(formatted);
        }
        Thread server = new Thread(() -> kafka.Kafka.main(new String[] {config}));
        server.setDaemon(true);
        server.start();
        Properties properties = new Properties();
        properties.put("bootstrap.servers", address);
        try (Admin admin = Admin.create(properties);
             BufferedReader lines = new BufferedReader(new InputStreamReader(System.in))) {
            while (admin.describeCluster().nodes().get().isEmpty()) {
                Thread.sleep(20);
            }
            System.out.println("serving");
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                try {
                    System.out.println("done " + perform(admin, line.split(" ")));
                } catch (Exception error) {
                    System.out.println("failed " + String.valueOf(error).replace('\n', ' '));
                }
            }
        } finally {
            Runtime.getRuntime().halt(0);
        }
    }

    private static String perform(Admin admin, String[] words) throws Exception {
        switch (words[0]) {
            case "create": {
                Map<String, String> settings = new HashMap<>();
                for (int index = 3; index < words.length; index++) {
                    String[] setting = words[index].split("=", 2);
                    settings.put(setting[0], setting[1]);
                }
                NewTopic topic = new NewTopic(words[1], Optional.of(Integer.parseInt(words[2])), Optional.empty());
                admin.createTopics(Set.of(topic.configs(settings))).all().get();
                return "";
            }
            case "delete":
                admin.deleteTopics(Set.of(words[1])).all().get();
                return "";
            case "partitions": {
                int count = Integer.parseInt(words[2]);
                admin.createPartitions(Map.of(words[1], NewPartitions.increaseTo(count))).all().get();
                return "";
            }
            case "delete-records": {
                TopicPartition partition = new TopicPartition(words[1], Integer.parseInt(words[2]));
                RecordsToDelete before = RecordsToDelete.beforeOffset(Long.parseLong(words[3]));
                admin.deleteRecords(Map.of(partition, before)).all().get();
                return "";
            }
            case "committed": {
                TopicPartition partition = new TopicPartition(words[2], Integer.parseInt(words[3]));
                var offsets = admin.listConsumerGroupOffsets(words[1]).partitionsToOffsetAndMetadata().get();
                var committed = offsets.get(partition);
                return committed == null ? "none" : String.valueOf(committed.offset());
            }
            case "transactional-ids": {
                StringBuilder ids = new StringBuilder();
                for (var listing : admin.listTransactions().all().get()) {
                    ids.append(listing.transactionalId()).append(' ');
                }
                return ids.toString().trim();
            }
            case "allow":
                for (AclBinding acl : bindings(words[1], words[2])) {
                    admin.createAcls(Set.of(acl)).all().get();
                }
                return "";
            default:
                throw new IllegalArgumentException(words[0]);
        }
    }

    /** All operations of a user on a topic, on all groups and with all transactional ids. */
    private static List<AclBinding> bindings(String user, String topic) {
        AccessControlEntry all = new AccessControlEntry("User:" + user, "*", AclOperation.ALL, AclPermissionType.ALLOW);
        return List.of(
            new AclBinding(new ResourcePattern(ResourceType.TOPIC, topic, PatternType.LITERAL), all),
            new AclBinding(new ResourcePattern(ResourceType.TRANSACTIONAL_ID, "*", PatternType.LITERAL), all),
            new AclBinding(new ResourcePattern(ResourceType.GROUP, "*", PatternType.LITERAL), all));
    }
}
