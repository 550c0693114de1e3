package dynamodb

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// TTLAttribute is the attribute by which DynamoDB's Time to Live removes expired jobs, in seconds of Unix time.
const TTLAttribute = "ttl"

// The attributes of an item.
const (
	keyAttr        = "pk" // the job's id, or the payload's key
	revisionAttr   = "revision"
	jobAttr        = "job"
	payloadAttr    = "payload"
	payloadKeyAttr = "payload_key"
	outputAttr     = "output"
	ownerAttr      = "owner"     // hash of the owner
	allAttr        = "all"       // all#0 to all#15
	listedAttr     = "listed"    // created_at#id
	agendaAttr     = "agenda"    // due#0 to due#15, expire#0 to expire#15; absent when there is nothing to be done
	agendaAtAttr   = "agenda_at" // when it is to be done: check_at#id, expires_at#id
	nameAttr       = "name"
	statusAttr     = "status"
	expiresAttr    = "expires_at"
)

const (
	allPrefix    = "all#"
	duePrefix    = "due#"
	expirePrefix = "expire#"
)

// The indexes: an owner's jobs, all jobs, and what is to be done about open and expired jobs. What they project
// beyond their keys is what lists filter by, and changes with a job's status alone, so that a renewal or a progress
// report writes to no list. An owner's list is one partition, which a run writes to three times: it carries some 300
// jobs of one owner a second.
const (
	ownerIndex  = "owner"
	allIndex    = "all"
	agendaIndex = "agenda"
)

// Table returns the shape of the table that a Store needs, on demand; Time to Live on TTLAttribute goes with it.
func Table(name string) *sdk.CreateTableInput {
	index := func(name, hash, sort string, projected ...string) types.GlobalSecondaryIndex {
		projection := &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly}
		if len(projected) > 0 {
			projection = &types.Projection{ProjectionType: types.ProjectionTypeInclude, NonKeyAttributes: projected}
		}
		return types.GlobalSecondaryIndex{
			IndexName: aws.String(name), Projection: projection,
			KeySchema: []types.KeySchemaElement{
				{AttributeName: aws.String(hash), KeyType: types.KeyTypeHash},
				{AttributeName: aws.String(sort), KeyType: types.KeyTypeRange},
			},
		}
	}
	input := &sdk.CreateTableInput{
		TableName:   aws.String(name),
		BillingMode: types.BillingModePayPerRequest,
		KeySchema:   []types.KeySchemaElement{{AttributeName: aws.String(keyAttr), KeyType: types.KeyTypeHash}},
		GlobalSecondaryIndexes: []types.GlobalSecondaryIndex{
			index(ownerIndex, ownerAttr, listedAttr, nameAttr, statusAttr, expiresAttr),
			index(allIndex, allAttr, listedAttr, nameAttr, statusAttr, expiresAttr),
			index(agendaIndex, agendaAttr, agendaAtAttr),
		},
	}
	for _, attr := range []string{keyAttr, ownerAttr, allAttr, listedAttr, agendaAttr, agendaAtAttr} {
		input.AttributeDefinitions = append(input.AttributeDefinitions,
			types.AttributeDefinition{AttributeName: aws.String(attr), AttributeType: types.ScalarAttributeTypeS})
	}
	return input
}

// CreateTable creates the table and waits, for two minutes at most, until it can be used: for tests and local tools, a
// deployment's table is Terraform's.
func CreateTable(ctx context.Context, client *sdk.Client, name string) error {
	if _, err := client.CreateTable(ctx, Table(name)); err != nil {
		return translate(ctx, err)
	}
	ready := sdk.NewTableExistsWaiter(client, func(o *sdk.TableExistsWaiterOptions) { o.MinDelay = time.Second })
	if err := ready.Wait(ctx, &sdk.DescribeTableInput{TableName: &name}, 2*time.Minute); err != nil {
		return translate(ctx, err)
	}
	_, err := client.UpdateTimeToLive(ctx, &sdk.UpdateTimeToLiveInput{
		TableName:               &name,
		TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String(TTLAttribute), Enabled: aws.Bool(true)},
	})
	if err != nil {
		return translate(ctx, err)
	}
	return nil
}
