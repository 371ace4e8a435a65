package spans

import (
	"os"
	"testing"

	"github.com/mcphub-go/mcphub/test/peers"
)

func TestMain(m *testing.M) { os.Exit(peers.Main(m)) }
