// The client of the TypeScript SDK v2, @modelcontextprotocol/client.
import {
  Client,
  StreamableHTTPClientTransport,
} from "@modelcontextprotocol/client";
import {
  capabilities,
  elicited,
  namesOf,
  rootsOf,
  sampled,
  textOf,
} from "./answers.mjs";

// sdk2 returns a client; mode is how it finds out the version of the protocol:
// "legacy", "auto", or {pin: version}.
export function sdk2(mode = "auto") {
  const client = new Client(
    { name: "sdk-v2", version: "1" },
    { capabilities, versionNegotiation: { mode } },
  );
  return {
    async connect({ url, root }) {
      client.setRequestHandler("sampling/createMessage", () => sampled);
      client.setRequestHandler("elicitation/create", () => elicited);
      client.setRequestHandler("roots/list", () => rootsOf(root));
      await client.connect(new StreamableHTTPClientTransport(new URL(url)));
      return client.getServerVersion();
    },
    list: () => namesOf(client),
    call: async (call) => textOf(await client.callTool(call)),
    close: () => client.close(),
  };
}
