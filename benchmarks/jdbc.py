"""Java's own JDBC, with the Hive driver, in a JVM that knows nothing of Spark sessions."""

from pathlib import Path

import pyspark
from py4j import java_gateway, protocol
from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
from py4j.protocol import Py4JJavaError

_JARS = Path(pyspark.__file__).parent / "jars"


class SqlError(Exception):
    """What the server answered instead of rows."""


class Jdbc:
    """A JVM from which clients connect."""

    def __init__(self) -> None:
        (py4j,) = _JARS.glob("py4j-*.jar")
        port, token = launch_gateway(jarpath=str(py4j), classpath=str(_JARS / "*"), die_on_exit=True, enable_auth=True)
        parameters = GatewayParameters(port=port, auth_token=token, auto_convert=True)
        self._gateway = JavaGateway(gateway_parameters=parameters)
        self._convert = java_gateway.get_return_value
        java_gateway.get_return_value = self._return_value
        self._gateway.jvm.java.lang.Class.forName("org.apache.hive.jdbc.HiveDriver")

    def _return_value(self, answer, client, *named):
        """PySpark converts exceptions by asking its own JVM about them; those of this JVM stay as they are."""
        convert = protocol.get_return_value if client is self._gateway._gateway_client else self._convert
        return convert(answer, client, *named)

    def connect(self, url: str) -> "Client":
        """A client of its own."""
        return Client(self._gateway.jvm.java.sql.DriverManager.getConnection(url, "analyst", ""))

    def close(self) -> None:
        """End the JVM."""
        java_gateway.get_return_value = self._convert
        self._gateway.shutdown()


class Client:
    """One connection.

    Args:
        connection: A java.sql.Connection.
    """

    def __init__(self, connection) -> None:
        self._connection = connection

    def ask(self, query: str) -> list[tuple]:
        """The rows of a statement.

        Raises:
            SqlError: The server refused it.
        """
        statement = self._connection.createStatement()
        try:
            if not statement.execute(query):
                return []
            found = statement.getResultSet()
            columns = range(1, found.getMetaData().getColumnCount() + 1)
            rows = []
            while found.next():
                rows.append(tuple(found.getObject(column) for column in columns))
            return rows
        except Py4JJavaError as error:
            raise SqlError(error.java_exception.getMessage()) from error
        finally:
            statement.close()

    def close(self) -> None:
        """Leave."""
        self._connection.close()
