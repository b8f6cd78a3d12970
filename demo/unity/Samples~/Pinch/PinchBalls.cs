// A ball for each hand: it sits between thumb and index finger, and grows while they pinch.

using UnityEngine;

namespace Handmesh.Samples
{
    /// <summary>Put this on an empty object under the main camera, and play. It brings its own receiver.</summary>
    public class PinchBalls : MonoBehaviour
    {
        private const float Open = 0.01f;
        private const float Pinched = 0.04f;

        private HandmeshReceiver receiver;
        private Transform left;
        private Transform right;

        private void Start()
        {
            receiver = gameObject.AddComponent<HandmeshReceiver>();
            left = CreateBall();
            right = CreateBall();
            receiver.HandChanged += Move;
        }

        private void Move(string side, HandMessage hand)
        {
            Transform ball = side == HandmeshReceiver.Left ? left : right;
            ball.gameObject.SetActive(hand != null);
            if (hand == null)
            {
                return;
            }
            Vector3 thumb = receiver.Joint(side, "ThumbTip").position;
            Vector3 index = receiver.Joint(side, "IndexTip").position;
            ball.position = (thumb + index) * 0.5f;
            ball.localScale = Vector3.one * (hand.Pinches(Finger.Index) ? Pinched : Open);
        }

        private static Transform CreateBall()
        {
            GameObject ball = GameObject.CreatePrimitive(PrimitiveType.Sphere);
            ball.SetActive(false);
            return ball.transform;
        }
    }
}
