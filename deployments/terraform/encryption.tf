# A key for topic, queues, table and parameters, when one is wanted.

locals {
  encrypt_with_kms = var.create_kms_key || var.kms_key_arn != null
  kms_key_arn      = var.create_kms_key ? aws_kms_key.jobs[0].arn : var.kms_key_arn
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

# In a key policy the resource * is the key itself.
data "aws_iam_policy_document" "key" {
  # As in the key policy that AWS makes by default: IAM policies decide for this account's principals.
  statement {
    sid       = "Account"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:root"]
    }
  }

  # To put a message of an encrypted topic into an encrypted queue
  # (https://docs.aws.amazon.com/sns/latest/dg/sns-enable-encryption-for-topic-sqs-queue-subscriptions.html).
  statement {
    sid       = "FromTheTopic"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["sns.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

resource "aws_kms_key" "jobs" {
  count = var.create_kms_key ? 1 : 0

  description         = "${var.name}: jobs, in topic, queues and table"
  enable_key_rotation = true
  policy              = data.aws_iam_policy_document.key.json
  tags                = var.tags
}

resource "aws_kms_alias" "jobs" {
  count = var.create_kms_key ? 1 : 0

  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.jobs[0].key_id
}
