package instrument

import "log/slog"

// LevelTrace is the log level below [slog.LevelDebug]: one record for each message.
const LevelTrace = slog.LevelDebug - 4
