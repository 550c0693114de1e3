package adaptertest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	signature "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// CallAWS makes one call of an AWS API that speaks JSON and that the product links no client for: target is its
// X-Amz-Target, like AmazonSSM.PutParameter, and service the name that requests are signed for. It returns what the
// answer's JSON object holds; a call that fails ends the test.
func CallAWS(t testing.TB, endpoint, service, target string, input map[string]any) map[string]any {
	t.Helper()
	body, err := json.Marshal(input)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint+"/", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", target)
	cfg := AWSConfig(t, endpoint)
	credentials, err := cfg.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(body)
	if err := signature.NewSigner().SignHTTP(t.Context(), credentials, req, hex.EncodeToString(hash[:]), service, cfg.Region, time.Now()); err != nil {
		t.Fatal(err)
	}
	resp, err := cfg.HTTPClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	var output map[string]any
	if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(text, &output) != nil {
		t.Fatalf("%s: status %d, %v\n%s", target, resp.StatusCode, err, text)
	}
	return output
}
