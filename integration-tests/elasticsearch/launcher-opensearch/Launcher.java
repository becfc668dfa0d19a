import java.io.IOException;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

import org.opensearch.common.logging.LogConfigurator;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.painless.PainlessPlugin;
import org.opensearch.script.expression.ExpressionPlugin;
import org.opensearch.transport.Netty4Plugin;

/**
 * Starts one node of OpenSearch 2: {@code Launcher HOME CONFIG KEY=VALUE...}.
 *
 * <p>It takes the place of OpenSearch's own start-up, which installs a security manager, needs files of the full
 * distribution that are not published as Maven artifacts, and refuses to run as root.
 */
public final class Launcher extends Node {
    private Launcher(Environment env) {
        super(env, List.of(Netty4Plugin.class, PainlessPlugin.class, ExpressionPlugin.class), false);
    }

    public static void main(String[] args) throws Exception {
        Map<String, String> overrides = new HashMap<>();
        for (int i = 2; i < args.length; i++) {
            String[] setting = args[i].split("=", 2);
            overrides.put(setting[0], setting[1]);
        }
        LogConfigurator.registerErrorListener();
        Environment env = InternalSettingsPreparer.prepareEnvironment(
            Settings.builder().put("path.home", args[0]).build(), overrides, Path.of(args[1]), () -> "node");
        LogConfigurator.setNodeName(Node.NODE_NAME_SETTING.get(env.settings()));
        LogConfigurator.configure(env);
        try {
            Node node = new Launcher(env);
            Runtime.getRuntime().addShutdownHook(new Thread(() -> close(node)));
            node.start();
            // All of a node's threads are daemons.
            new CountDownLatch(1).await();
        } catch (Throwable e) {
            e.printStackTrace();
            System.exit(1);
        }
    }

    private static void close(Node node) {
        try {
            node.close();
            node.awaitClose(10, TimeUnit.SECONDS);
        } catch (IOException | InterruptedException e) {
            e.printStackTrace();
        }
    }
}
