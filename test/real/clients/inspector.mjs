// What both programs of the MCP Inspector need.
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

export const inspector = fileURLToPath(
  new URL("../node_modules/.bin/mcp-inspector", import.meta.url),
);

// configure writes inspector.json, whose only server is the hub.
export function configure(url, root) {
  const hub = { type: "streamable-http", url, roots: [{ uri: root, name: "work" }] };
  return writeFile("inspector.json", JSON.stringify({ mcpServers: { hub } }));
}
