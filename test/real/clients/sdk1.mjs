// The client of the TypeScript SDK v1, @modelcontextprotocol/sdk.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";
import {
  capabilities,
  elicited,
  namesOf,
  rootsOf,
  sampled,
  textOf,
} from "./answers.mjs";

// sdk1 returns a client; transport makes its transport out of the URL.
export function sdk1(
  transport = (url) => new StreamableHTTPClientTransport(new URL(url)),
) {
  const client = new Client(
    { name: "sdk-v1", version: "1" },
    { capabilities },
  );
  return {
    async connect({ url, root }) {
      client.setRequestHandler(CreateMessageRequestSchema, () => sampled);
      client.setRequestHandler(ElicitRequestSchema, () => elicited);
      client.setRequestHandler(ListRootsRequestSchema, () => rootsOf(root));
      await client.connect(transport(url));
      return client.getServerVersion();
    },
    list: () => namesOf(client),
    call: async (call) => textOf(await client.callTool(call)),
    close: () => client.close(),
  };
}
