package adaptertest

import (
	"context"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// listening is the line in which moto_server says which port the kernel gave it.
var listening = regexp.MustCompile(`Running on (http://127\.0\.0\.1:\d+)`)

// Moto starts a moto_server, which answers the APIs of SNS, SQS, DynamoDB and the rest from memory, and returns its
// base URL. Each call starts an empty one that lives until t ends: a suite calls it once, in its outermost test.
func Moto(t testing.TB) string {
	t.Helper()
	program := Need(t, "moto_server", "pip install 'moto[server]'")
	cmd := command(t, program, "-H", "127.0.0.1", "-p", "0")
	cmd.Dir = t.TempDir()
	server := start(t, cmd)

	client, closeIdle := httpClient(5 * time.Second)
	defer closeIdle()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		if line := listening.FindStringSubmatch(read(server.stderr)); len(line) == 2 && answers(ctx, client, line[1]) {
			return line[1]
		}
		select {
		case <-poll.C:
		case <-server.exited:
			t.Fatalf("moto_server ended before it listened: %v", server.cmd.ProcessState)
		case <-ctx.Done():
			t.Fatalf("moto_server did not listen within %v", startTimeout)
		}
	}
}

func answers(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/moto-api/data.json", http.NoBody)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// AWSConfig is the configuration of AWS clients that talk to endpoint, in us-east-1 and with made-up credentials. It
// reads nothing from the environment, and its connections are closed when t ends.
func AWSConfig(t testing.TB, endpoint string) aws.Config {
	t.Helper()
	// Longer than the 20 s that SQS waits for a message at most.
	client, closeIdle := httpClient(30 * time.Second)
	t.Cleanup(closeIdle)
	return aws.Config{
		Region:       "us-east-1",
		Credentials:  credentials.NewStaticCredentialsProvider("test", "test", ""),
		BaseEndpoint: aws.String(endpoint),
		HTTPClient:   client,
	}
}

// httpClient has a transport of its own, so that closing it leaves no goroutine to a leak check and no connection of
// another test cut.
func httpClient(timeout time.Duration) (client *http.Client, closeIdle func()) {
	transport := &http.Transport{}
	return &http.Client{Transport: transport, Timeout: timeout}, transport.CloseIdleConnections
}
