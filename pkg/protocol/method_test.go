package protocol

import (
	"slices"
	"testing"
)

func TestClientRequestsAreMethods(t *testing.T) {
	t.Parallel()
	requests := ClientRequests()
	for _, method := range requests {
		if !IsMethod(method) {
			t.Errorf("%q is a client request and not a method", method)
		}
	}
	if slices.Sort(requests); len(slices.Compact(requests)) != len(ClientRequests()) {
		t.Errorf("a method occurs more than once in %q", requests)
	}
}

func TestIsMethodKnowsServerRequestsAndNotifications(t *testing.T) {
	t.Parallel()
	for _, method := range []string{
		MethodSamplingCreateMessage, MethodElicitationCreate, MethodRootsList,
		MethodInitialized, MethodCancelled, MethodProgress, MethodLogMessage, MethodRootsListChanged,
		MethodToolsListChanged, MethodPromptsListChanged, MethodResourcesListChanged, MethodResourcesUpdated,
		MethodElicitationComplete, MethodTasksStatus, MethodSubscriptionsAcknowledged,
	} {
		if !IsMethod(method) {
			t.Errorf("%q is not a method", method)
		}
		if slices.Contains(ClientRequests(), method) {
			t.Errorf("%q is a client request", method)
		}
	}
	for _, method := range []string{"", "Tools/Call", "tools/call ", "tools", "vendor/method", "notifications/unknown"} {
		if IsMethod(method) {
			t.Errorf("%q is a method", method)
		}
	}
}

func TestIsListChangedKnowsTheListsOfServers(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]bool{
		MethodToolsListChanged: true, MethodPromptsListChanged: true, MethodResourcesListChanged: true,
		MethodRootsListChanged: false, MethodResourcesUpdated: false, MethodToolsList: false, "": false,
	} {
		if got := IsListChanged(method); got != want {
			t.Errorf("%q: %t", method, got)
		}
	}
}

func TestParamsQuoteTheirValues(t *testing.T) {
	t.Parallel()
	if got := string(LevelParams("debug")); got != `{"level":"debug"}` {
		t.Errorf("params are %s", got)
	}
	if got := string(URIParams(`a:"b"`)); got != `{"uri":"a:\"b\""}` {
		t.Errorf("params are %s", got)
	}
}
