package dynamodb

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

const (
	maxTries   = 8
	tryTimeout = 3 * time.Second
	firstDelay = 50 * time.Millisecond
	lastDelay  = 2 * time.Second
)

// delay is the wait after the given failed try, 0 being the first: anything up to a bound that doubles, so that those
// who met do not meet again (https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/).
func delay(try int) time.Duration {
	return rand.N(min(firstDelay<<min(try, 10), lastDelay)) //nolint:gosec // spreads load, guards nothing
}

// bounded returns client with this package's bounds of a call. The SDK's own first wait is of about a second, too long
// for a store that answers in milliseconds, and it does not repeat a transaction that met another one. Its quota, by
// which a store that fails everything is not asked eight times over, stays.
func bounded(client *sdk.Client) *sdk.Client {
	return sdk.New(client.Options(), func(o *sdk.Options) {
		o.HTTPClient = timedClient{o.HTTPClient}
		o.Retryer = retry.NewStandard(func(so *retry.StandardOptions) {
			so.MaxAttempts = maxTries
			so.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
				return delay(max(0, attempt-1)), nil
			})
			so.Retryables = append(so.Retryables, retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
				if metAnother(err) {
					return aws.TrueTernary
				}
				return aws.UnknownTernary
			}))
		})
	})
}

// timedClient bounds each try of a request, body included. A function that was frozen wakes up with connections whose
// other end is long gone, and without a bound the first request would wait for the whole invocation.
type timedClient struct{ client sdk.HTTPClient }

func (c timedClient) Do(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(req.Context(), tryTimeout)
	resp, err := c.client.Do(req.WithContext(ctx))
	if err != nil {
		cancel()
		return resp, err
	}
	resp.Body = timedBody{resp.Body, cancel}
	return resp, nil
}

type timedBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b timedBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}
