import { drive } from "./drive.mjs";
import { sdk2 } from "./sdk2.mjs";

await drive(sdk2("legacy"));
