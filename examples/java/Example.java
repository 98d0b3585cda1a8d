// Corallite from Java: open, write, branch, look back.
// apt-get install -y default-jdk-headless libxerial-sqlite-jdbc-java
//
//   eval "$(corallite env)"
//   java -cp /usr/share/java/sqlite-jdbc.jar examples/java/Example.java
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;

public class Example {
    static void run(Connection db, String sql) throws SQLException {
        try (Statement statement = db.createStatement()) {
            statement.execute(sql);
        }
    }

    static String value(Connection db, String sql) throws SQLException {
        try (Statement statement = db.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            return rows.next() ? rows.getString(1) : null;
        }
    }

    public static void main(String[] arguments) throws Exception {
        String name = arguments.length > 0 ? arguments[0] : "example-java";

        // Once a process: any connection loads the extension, and its VFS stays for all.
        Properties may = new Properties();
        may.setProperty("enable_load_extension", "true");
        Connection loader = DriverManager.getConnection("jdbc:sqlite::memory:", may);
        try (PreparedStatement load = loader.prepareStatement("SELECT load_extension(?)")) {
            load.setString(1, System.getenv("CORALLITE_EXTENSION"));
            load.execute();
        }

        // Open and write. commit() returns when a majority of the safekeepers has it on disk.
        Connection db = DriverManager.getConnection("jdbc:sqlite:file:" + name + "?vfs=corallite");
        run(db, "CREATE TABLE IF NOT EXISTS item(name TEXT PRIMARY KEY, price REAL)");
        db.setAutoCommit(false);
        try (PreparedStatement put = db.prepareStatement("INSERT OR REPLACE INTO item VALUES(?, ?)")) {
            put.setString(1, "shell");
            put.setDouble(2, 2.5);
            put.executeUpdate();
        }
        db.commit();
        db.setAutoCommit(true);

        // Where are we? Each commit is a place to come back to.
        String lsn = value(db, "PRAGMA corallite_lsn");
        run(db, "UPDATE item SET price = 3.0 WHERE name = 'shell'");
        String show = "SELECT name || ' ' || price FROM item";
        System.out.println("now     " + value(db, show));

        // A branch is a database of its own that begins as this one is, in milliseconds.
        String branch = name + "/try-" + ProcessHandle.current().pid();
        if (new ProcessBuilder("corallite", "branch", "create", branch)
                .redirectOutput(ProcessBuilder.Redirect.DISCARD).start().waitFor() != 0)
            System.exit(1);
        Connection other = DriverManager.getConnection("jdbc:sqlite:file:" + branch + "?vfs=corallite");
        run(other, "UPDATE item SET price = 9.9 WHERE name = 'shell'");
        System.out.println("branch  " + value(other, show));
        System.out.println("now     " + value(db, show));

        // The past: an LSN, a time, -10m, pin:NAME. Read-only.
        Connection before = DriverManager.getConnection(
                "jdbc:sqlite:file:" + name + "?vfs=corallite&at=" + lsn);
        System.out.println("past    " + value(before, show));
        for (Connection each : new Connection[] {before, other, db, loader})
            each.close();
    }
}
