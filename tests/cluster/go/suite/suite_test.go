// Package suite builds the official Gateway API conformance suite as a test binary.
package suite

import (
	"encoding/json"
	"os"
	"sort"
	"testing"

	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// TestConformance takes its options from the suite's own flags.
func TestConformance(t *testing.T) { conformance.RunConformance(t) }

type test struct {
	Name        string   `json:"name"`
	Features    []string `json:"features"`
	Provisional bool     `json:"provisional"`
}

type profile struct {
	Name     string   `json:"name"`
	Core     []string `json:"core"`
	Extended []string `json:"extended"`
}

// TestTable writes the suite's tests and profiles as JSON to the file that CONFORMANCE_TABLE names.
func TestTable(t *testing.T) {
	path := os.Getenv("CONFORMANCE_TABLE")
	if path == "" {
		t.Skip("CONFORMANCE_TABLE is not set")
	}
	var table struct {
		Tests    []test    `json:"tests"`
		Profiles []profile `json:"profiles"`
	}
	for _, entry := range tests.ConformanceTests {
		wanted := make([]string, 0, len(entry.Features))
		for _, feature := range entry.Features {
			wanted = append(wanted, string(feature))
		}
		table.Tests = append(table.Tests, test{Name: entry.ShortName, Features: wanted, Provisional: entry.Provisional})
	}
	for _, p := range []suite.ConformanceProfile{
		suite.GatewayHTTPConformanceProfile, suite.GatewayGRPCConformanceProfile, suite.GatewayTLSConformanceProfile,
		suite.GatewayTCPConformanceProfile, suite.GatewayUDPConformanceProfile, suite.MeshHTTPConformanceProfile,
		suite.MeshGRPCConformanceProfile,
	} {
		table.Profiles = append(table.Profiles, profile{Name: string(p.Name), Core: names(p.CoreFeatures), Extended: names(p.ExtendedFeatures)})
	}
	text, err := json.MarshalIndent(table, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func names(set sets.Set[features.FeatureName]) []string {
	result := make([]string, 0, len(set))
	for name := range set {
		result = append(result, string(name))
	}
	sort.Strings(result)
	return result
}
