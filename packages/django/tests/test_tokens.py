"""A browser has a token of the user who is logged in, for what they may read now, and it is renewed before it ends."""

import time
from unittest import mock

import jwt
from django.contrib.auth.models import User
from django.test import TestCase, override_settings

from outbox import token_for
from outbox.conf import secret


def claims_of(token):
    return jwt.decode(token, secret(), algorithms=["HS256"])


def both_channels(user):
    return ["news", f"user:{user.pk}", "org:1:*"]


class TokenTest(TestCase):
    def setUp(self):
        self.ann = User.objects.create_user("ann", password="secret")
        self.ben = User.objects.create_user("ben", password="secret")

    def cookie(self):
        return self.client.cookies.get("outbox_token")

    def test_a_token_is_for_its_user_and_for_so_long(self):
        claims = claims_of(token_for(self.ann))
        self.assertEqual((claims["sub"], claims["channels"]), (str(self.ann.pk), [f"user:{self.ann.pk}"]))
        self.assertAlmostEqual(claims["exp"], time.time() + 300, delta=5)
        claims = claims_of(token_for(self.ann, ["b", "a"], seconds=9))
        self.assertEqual(claims["channels"], ["a", "b"])
        self.assertAlmostEqual(claims["exp"], time.time() + 9, delta=5)

    def test_without_a_secret_of_its_own_one_is_derived_from_the_secret_key(self):
        with override_settings(OUTBOX={}):
            token = token_for(self.ann)
            self.assertEqual(claims_of(token)["sub"], str(self.ann.pk))
            with override_settings(SECRET_KEY="another"), self.assertRaises(jwt.InvalidSignatureError):
                claims_of(token)

    def test_the_log_in_sets_a_cookie_that_scripts_cannot_see_and_the_log_out_deletes_it(self):
        self.client.get("/page/")
        self.assertIsNone(self.cookie())
        self.client.get("/in/?name=ann")
        self.assertEqual(claims_of(self.cookie().value)["sub"], str(self.ann.pk))
        self.assertTrue(self.cookie()["httponly"])
        self.assertEqual(
            (self.cookie()["samesite"], self.cookie()["path"], self.cookie()["max-age"]), ("Lax", "/", 300)
        )
        self.assertEqual(self.cookie()["secure"], "")
        self.client.get("/out/")
        self.assertEqual((self.cookie().value, self.cookie()["max-age"]), ("", 0))

    @override_settings(SESSION_COOKIE_SECURE=True)
    def test_the_cookie_is_as_secure_as_the_sessions(self):
        self.client.get("/in/?name=ann", secure=True)
        self.assertTrue(self.cookie()["secure"])

    def test_a_token_is_renewed_when_half_of_its_time_is_over_and_not_before(self):
        start = time.time()
        self.client.get("/in/?name=ann")
        first = self.cookie().value
        with mock.patch("outbox.tokens.time.time", lambda: start + 140):
            self.assertNotIn("outbox_token", self.client.get("/page/").cookies)
        with mock.patch("outbox.tokens.time.time", lambda: start + 160):
            renewed = self.client.get("/page/").cookies["outbox_token"].value
        self.assertGreaterEqual(claims_of(renewed)["exp"] - claims_of(first)["exp"], 155)

    def test_a_token_of_another_user_or_of_other_rights_or_forged_is_replaced(self):
        self.client.get("/in/?name=ann")
        for wrong in (
            token_for(self.ben),
            token_for(self.ann, ["everything"]),
            "forged",
            token_for(self.ann, seconds=-1),
        ):
            with self.subTest(wrong=wrong):
                self.client.cookies["outbox_token"] = wrong
                self.client.get("/page/")
                self.assertEqual(claims_of(self.cookie().value)["sub"], str(self.ann.pk))
                self.assertEqual(claims_of(self.cookie().value)["channels"], [f"user:{self.ann.pk}"])

    @override_settings(OUTBOX={"CHANNELS_FOR": both_channels})
    def test_the_project_says_what_a_user_may_read(self):
        self.client.get("/in/?name=ann")
        self.assertEqual(claims_of(self.cookie().value)["channels"], ["news", "org:1:*", f"user:{self.ann.pk}"])
        self.assertNotIn("outbox_token", self.client.get("/page/").cookies)

    def test_channels_that_are_one_string_are_told_of(self):
        with (
            override_settings(OUTBOX={"CHANNELS_FOR": str}),
            self.assertRaisesMessage(TypeError, "return a list, as in ['ann']"),
        ):
            token_for(self.ann)

    def test_an_open_page_renews_its_token_and_is_told_for_how_long(self):
        answer = self.client.get("/outbox/token")
        self.assertEqual((answer.status_code, answer.cookies["outbox_token"].value), (401, ""))
        self.client.force_login(self.ann)
        answer = self.client.get("/outbox/token")
        self.assertEqual(answer.json(), {"expires_in": 300})
        self.assertIn("no-store", answer["Cache-Control"])
        self.assertEqual(claims_of(answer.cookies["outbox_token"].value)["sub"], str(self.ann.pk))

    def test_a_user_who_was_deactivated_gets_no_new_token(self):
        self.client.get("/in/?name=ann")
        User.objects.filter(pk=self.ann.pk).update(is_active=False)
        self.client.get("/page/")
        self.assertEqual(self.cookie().value, "")
