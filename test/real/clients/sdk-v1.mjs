import { drive } from "./drive.mjs";
import { sdk1 } from "./sdk1.mjs";

await drive(sdk1());
