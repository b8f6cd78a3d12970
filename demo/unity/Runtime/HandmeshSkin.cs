// Optional: a skinned hand over the joints of a HandmeshReceiver. Its mesh comes once, from the stream's /bind.json.

using System;
using System.Collections;
using UnityEngine;
using UnityEngine.Networking;

namespace Handmesh
{
    /// <summary>A hand at rest, as it is sent: OpenXR's axes, metres, flat lists.</summary>
    [Serializable]
    public class BoundHand
    {
        public float[] colour_rgb;
        public float[] positions_m;
        public float[] orientations_xyzw;
        public float[] vertices_m;
        public int[] faces;
    }

    [Serializable]
    public class BoundHands
    {
        public BoundHand left;
        public BoundHand right;
    }

    [Serializable]
    public class BindMessage
    {
        public int version;
        public int[] weight_joints;
        public float[] weights;
        public BoundHands hands;
    }

    /// <summary>Put this beside a HandmeshReceiver.</summary>
    [RequireComponent(typeof(HandmeshReceiver))]
    public class HandmeshSkin : MonoBehaviour
    {
        [Tooltip("The address that handmesh stream prints, without what follows #.")]
        public string server = "http://127.0.0.1:8765";

        [Tooltip("The stream's --token, if it has one.")]
        public string token = "";

        [Tooltip("For both hands; each gets its colour. A material that works with the project's render pipeline.")]
        public Material material;

        private IEnumerator Start()
        {
            using (UnityWebRequest request = UnityWebRequest.Get(server.TrimEnd('/') + "/bind.json"))
            {
                if (token.Length > 0)
                {
                    request.SetRequestHeader("Authorization", "Bearer " + token);
                }
                yield return request.SendWebRequest();
                if (request.result != UnityWebRequest.Result.Success)
                {
                    Debug.LogWarning($"handmesh: no mesh from {server} ({request.error}); the joints work without");
                    yield break;
                }
                Build(JsonUtility.FromJson<BindMessage>(request.downloadHandler.text));
            }
        }

        private void Build(BindMessage bind)
        {
            if (bind.version != HandmeshReceiver.Version)
            {
                Debug.LogWarning($"handmesh: this script reads version {HandmeshReceiver.Version}, not {bind.version}");
                return;
            }
            HandmeshReceiver receiver = GetComponent<HandmeshReceiver>();
            AddSkin(receiver.Joints(HandmeshReceiver.Left), bind, bind.hands.left);
            AddSkin(receiver.Joints(HandmeshReceiver.Right), bind, bind.hands.right);
        }

        private void AddSkin(Transform[] bones, BindMessage bind, BoundHand hand)
        {
            SkinnedMeshRenderer skin = bones[0].parent.gameObject.AddComponent<SkinnedMeshRenderer>();
            skin.sharedMesh = CreateMesh(bind, hand);
            skin.bones = bones;
            skin.updateWhenOffscreen = true; // its bounds at rest are elsewhere
            if (material != null)
            {
                skin.material = material;
                skin.material.color = new Color(hand.colour_rgb[0], hand.colour_rgb[1], hand.colour_rgb[2]);
            }
        }

        public static Mesh CreateMesh(BindMessage bind, BoundHand hand)
        {
            Mesh mesh = new Mesh { name = "handmesh" };
            mesh.vertices = Vertices(hand);
            mesh.triangles = Triangles(hand);
            mesh.boneWeights = Weights(bind, hand.vertices_m.Length / 3);
            mesh.bindposes = BindPoses(hand);
            mesh.RecalculateNormals();
            mesh.RecalculateBounds();
            return mesh;
        }

        private static Vector3[] Vertices(BoundHand hand)
        {
            Vector3[] vertices = new Vector3[hand.vertices_m.Length / 3];
            for (int vertex = 0; vertex < vertices.Length; vertex++)
            {
                vertices[vertex] = Axes.Position(hand.vertices_m, vertex);
            }
            return vertices;
        }

        /// <summary>Corners in reverse: a mirrored mesh would be seen from within.</summary>
        private static int[] Triangles(BoundHand hand)
        {
            int[] corners = (int[])hand.faces.Clone();
            Array.Reverse(corners);
            return corners;
        }

        private static BoneWeight[] Weights(BindMessage bind, int count)
        {
            BoneWeight[] weights = new BoneWeight[count];
            for (int vertex = 0; vertex < count; vertex++)
            {
                int first = 4 * vertex;
                weights[vertex] = new BoneWeight
                {
                    boneIndex0 = bind.weight_joints[first],
                    boneIndex1 = bind.weight_joints[first + 1],
                    boneIndex2 = bind.weight_joints[first + 2],
                    boneIndex3 = bind.weight_joints[first + 3],
                    weight0 = bind.weights[first],
                    weight1 = bind.weights[first + 1],
                    weight2 = bind.weights[first + 2],
                    weight3 = bind.weights[first + 3],
                };
            }
            return weights;
        }

        private static Matrix4x4[] BindPoses(BoundHand hand)
        {
            Matrix4x4[] poses = new Matrix4x4[HandmeshReceiver.JointNames.Length];
            poses[HandMessage.JointCount] = Matrix4x4.identity; // the palm moves nothing
            for (int joint = 0; joint < HandMessage.JointCount; joint++)
            {
                Vector3 position = Axes.Position(hand.positions_m, joint);
                Quaternion rotation = Axes.Orientation(hand.orientations_xyzw, joint);
                poses[joint] = Matrix4x4.TRS(position, rotation, Vector3.one).inverse;
            }
            return poses;
        }
    }
}
