# For those who have the provider: terraform init && terraform test. Nothing is created. The packages have to be there:
# tests/packages/{auth,jobs,worker}.zip, or give another folder by -var packages_dir=….

mock_provider "aws" {
  mock_resource "aws_dynamodb_table" {
    defaults = { arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/jobgate-jobs" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-west-1:123456789012:jobgate-jobs" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-west-1:123456789012:jobgate", url = "https://sqs.eu-west-1.amazonaws.com/123456789012/jobgate" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/jobgate" }
  }
  mock_resource "aws_lambda_function" {
    defaults = {
      arn        = "arn:aws:lambda:eu-west-1:123456789012:function:jobgate"
      invoke_arn = "arn:aws:apigateway:eu-west-1:lambda:path/2015-03-31/functions/arn:aws:lambda:eu-west-1:123456789012:function:jobgate/invocations"
    }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-west-1:123456789012:log-group:jobgate" }
  }
  mock_resource "aws_cloudwatch_event_rule" {
    defaults = { arn = "arn:aws:events:eu-west-1:123456789012:rule/jobgate-tick" }
  }
  mock_resource "aws_api_gateway_rest_api" {
    defaults = { execution_arn = "arn:aws:execute-api:eu-west-1:123456789012:abcdefghij" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-west-1:123456789012:key/1", key_id = "1" }
  }
  mock_resource "aws_ssm_parameter" {
    defaults = { arn = "arn:aws:ssm:eu-west-1:123456789012:parameter/jobgate/webhooks", version = 1 }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
}

variables {
  packages_dir  = "tests/packages"
  oidc_issuer   = "https://id.example.com/"
  oidc_audience = ["jobgate"]
}

run "by_default_jobs_go_through_a_queue" {
  command = apply

  assert {
    condition     = length(aws_sqs_queue.jobs) == 1 && length(aws_sns_topic_subscription.queue) == 1 && length(aws_sns_topic_subscription.worker) == 0
    error_message = "the worker is not called by a queue"
  }
  assert {
    condition     = tonumber(aws_lambda_event_source_mapping.queue[0].scaling_config[0].maximum_concurrency) == 10
    error_message = "the queue calls without bound"
  }
  assert {
    condition     = aws_sqs_queue.jobs[0].visibility_timeout_seconds >= 6 * aws_lambda_function.function["worker"].timeout
    error_message = "a message comes back while it is worked on"
  }
  assert {
    condition     = alltrue([for key, method in aws_api_gateway_method.route : method.authorization == "CUSTOM" || key == "GET /openapi.json"])
    error_message = "a method has no authorizer"
  }
  assert {
    condition     = length(aws_api_gateway_method.preflight) == 0
    error_message = "there are preflights without origins"
  }
  assert {
    condition     = aws_api_gateway_gateway_response.response["AUTHORIZER_FAILURE"].status_code == "503" && aws_api_gateway_gateway_response.response["MISSING_AUTHENTICATION_TOKEN"].status_code == "404"
    error_message = "an authorizer's fault is 503, an unknown route 404"
  }
  assert {
    condition     = lookup(aws_lambda_function.function["worker"].environment[0].variables, "WEBHOOKS", "") == ""
    error_message = "there are webhooks that nobody asked for"
  }
  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.alarm : length(alarm.alarm_actions) == 0])
    error_message = "alarms go somewhere without a topic"
  }
}

run "or_straight_to_the_worker" {
  command = plan

  variables {
    worker_delivery = "sns"
  }

  assert {
    condition     = length(aws_sqs_queue.jobs) == 0 && length(aws_sns_topic_subscription.worker) == 1 && length(aws_lambda_event_source_mapping.queue) == 0
    error_message = "the topic does not call the worker"
  }
  assert {
    condition     = !contains(keys(aws_lambda_function.function["worker"].environment[0].variables), "JOBS_QUEUE_URL")
    error_message = "the worker has a queue that is not there"
  }
  assert {
    condition     = output.queue_url == null
    error_message = "there is a queue's URL without a queue"
  }
}

run "origins_bring_preflights" {
  command = plan

  variables {
    cors_origins = ["https://app.example.com"]
  }

  assert {
    condition     = toset(keys(aws_api_gateway_method.preflight)) == toset(["jobs", "jobs/{id}", "jobs/{id}/cancel", "jobs/{id}/redrive", "openapi.json"])
    error_message = "not every path answers preflights"
  }
}

run "webhooks_are_a_secret" {
  command = apply

  variables {
    webhooks = [{ jobs = "*", url = "https://hooks.example.com/", secret = "whsec_QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB" }]
  }

  assert {
    condition     = startswith(aws_lambda_function.function["worker"].environment[0].variables["WEBHOOKS"], "ssm:/jobgate/webhooks")
    error_message = "webhooks are in the environment"
  }
  assert {
    condition     = aws_ssm_parameter.webhooks[0].type == "SecureString"
    error_message = "webhooks are stored in the clear"
  }
}

run "a_custom_domain_shuts_the_other_one" {
  command = plan

  variables {
    domain = { name = "api.example.com", certificate_arn = "arn:aws:acm:eu-west-1:123456789012:certificate/1" }
  }

  assert {
    condition     = aws_api_gateway_rest_api.jobs.disable_execute_api_endpoint && output.url == "https://api.example.com"
    error_message = "API Gateway's own host name is open"
  }
}

run "concurrency_fits_what_is_reserved" {
  command = plan

  variables {
    reserved_concurrency = { worker = 5 }
  }

  expect_failures = [var.reserved_concurrency]
}

run "an_environment_fits_four_kilobytes" {
  command = plan

  variables {
    access_policy = "{\"rules\":[],\"x\":\"${join("", [for i in range(1000) : "xxxxx"])}\"}"
  }

  expect_failures = [aws_lambda_function.function]
}
